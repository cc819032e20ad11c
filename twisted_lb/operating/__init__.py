"""Operating a data plane: what is seen of it, and how it is steered."""

from twisted_lb.operating.operator import Operating
from twisted_lb.operating.owner import Owner
from twisted_lb.operating.texts import clean

__all__ = ["Operating", "Owner", "clean"]
