"""What holds for all tests that need no container."""

import signal

# a shell's background job has it ignored, and so would every process that a test interrupts
signal.signal(signal.SIGINT, signal.default_int_handler)
