"""start_server, a super-daemon that restarts servers with no request lost, and its companions."""

__version__ = "0.1.0"
