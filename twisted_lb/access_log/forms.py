"""The forms of lines, by their names."""

from collections.abc import Callable
from typing import Final

from twisted_lb.access_log.around import Around, Form
from twisted_lb.access_log.combined import CombinedForm
from twisted_lb.access_log.haproxy import HaproxyForm
from twisted_lb.access_log.json_lines import JsonForm
from twisted_lb.access_log.templates import TemplateForm

NAMED: Final[dict[str, Callable[[Around], Form]]] = {
    "haproxy": HaproxyForm,
    "combined": CombinedForm,
    "json": JsonForm,
}


def form_of(text: str, around: Around) -> Form:
    """The form of this name, or by this template."""
    made = NAMED.get(text)
    return TemplateForm(text, around) if made is None else made(around)
