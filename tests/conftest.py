"""What every test can rely on."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long an example takes says more about who else uses the machine than about the code.
settings.register_profile("fleetprompt", deadline=None)
settings.load_profile("fleetprompt")

# A shell starts what runs in the background with Ctrl-C ignored, and children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
