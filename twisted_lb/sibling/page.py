"""The sibling backend's pages for a browser."""

import re
from collections.abc import Mapping
from html import escape
from string import Template

# The authority of a Host field, its port apart (RFC 9110 7.2); of names only what needs no escape.
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]*)?")
_PAGE_OF_HTTP = re.compile(r"https?://[!-~]+")

FRAME = Template("""\
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
$body
</body>
</html>
""")

FACTS = Template("""\
<p>This backend has answered you. Reload, and it may be another one.</p>
<dl>
<dt>port</dt><dd>$port</dd>
<dt>process</dt><dd>$process</dd>
<dt>requests served</dt><dd>$requests</dd>
<dt>health checks</dt><dd>$checks</dd>
</dl>
<p>Take it away: <a href="$own/down?seconds=20" rel="nofollow">close its port for 20 s</a>, or
<a href="$own/sick?seconds=20" rel="nofollow">let its health checks fail for 20 s</a>.</p>""")

DONE = Template("""\
<p>$message</p>
<p><a href="$back">Back</a></p>""")


def facts_page(facts: Mapping[str, str | int], host: str) -> str:
    """The page that shows `facts`. Its links lead to the backend itself, at its own port of the `host` that the browser has
    asked (a Host field): through a balancer they would lead to whoever is next.
    """
    asked = _HOST.fullmatch(host)
    own = f"http://{asked[1]}:{facts['port']}" if asked else ""
    return _framed(facts, FACTS.substitute({key: escape(str(value)) for key, value in facts.items()}, own=own))


def done_page(facts: Mapping[str, str | int], message: str, referer: str) -> str:
    """The page that says what was done, and leads back to where the browser came from (a Referer field)."""
    back = referer if _PAGE_OF_HTTP.fullmatch(referer) else "/"
    return _framed(facts, DONE.substitute(message=escape(message), back=escape(back)))


def _framed(facts: Mapping[str, str | int], body: str) -> str:
    """A page of the backend; the colour tells backends apart at a glance."""
    # The golden angle keeps neighbouring ports far apart on the colour wheel.
    return FRAME.substitute(name=escape(str(facts["name"])), hue=int(facts["port"]) * 137 % 360, body=body)
