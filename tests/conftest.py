"""What holds for all tests that need no container."""

import signal

# a shell's background job has them ignored, and so would every process that a test starts
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
