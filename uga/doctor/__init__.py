"""What a machine, a model and a folder of slides are good for, tried before a run."""

from uga.doctor.examination import Request, examine
from uga.doctor.finding import Finding, Verdict

__all__ = ["Finding", "Request", "Verdict", "examine"]
