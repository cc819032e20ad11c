"""The sibling backend's page for a browser."""

from collections.abc import Mapping
from html import escape
from string import Template

PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; --hue: $hue; }
  body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 10vh auto;
         padding: 0 1rem; }
  h1 { font-size: 3rem; line-height: 1.1; border-left: .5rem solid hsl(var(--hue) 70% 50%);
       padding-left: 1rem; overflow-wrap: anywhere; }
  dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.5rem; }
  dt { opacity: .7; }
  dd { margin: 0; font-variant-numeric: tabular-nums; }
</style>
</head>
<body>
<h1>$name</h1>
<p>This backend has answered you. Reload, and it may be another one.</p>
<dl>
<dt>port</dt><dd>$port</dd>
<dt>process</dt><dd>$process</dd>
<dt>requests served</dt><dd>$requests</dd>
<dt>health checks</dt><dd>$checks</dd>
</dl>
<p>Take it away: <a href="/down?seconds=20" rel="nofollow">close its port for 20 s</a>, or
<a href="/sick?seconds=20" rel="nofollow">let its health checks fail for 20 s</a>.</p>
</body>
</html>
""")


def html_page(facts: Mapping[str, str | int]) -> str:
    """The page that shows `facts`; the colour tells backends apart at a glance."""
    # The golden angle keeps neighbouring ports far apart on the colour wheel.
    hue = int(facts["port"]) * 137 % 360
    return PAGE.substitute({key: escape(str(value)) for key, value in facts.items()}, hue=hue)
