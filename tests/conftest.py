"""What all tests share: Ctrl-C reaches them, also where they were started in the background."""

import signal

# A shell starts background jobs with SIGINT ignored, and those would hand that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
