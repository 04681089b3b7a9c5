"""What any agent, or any host, of the router dialect must do, as checks that can be run."""

from fleetprompt.conformance.report import Finding, Report
from fleetprompt.conformance.suite import Role, SampleCall, run_conformance

__all__ = ["Finding", "Report", "Role", "SampleCall", "run_conformance"]
