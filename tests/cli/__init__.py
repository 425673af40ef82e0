"""The command line: settings and arguments without a broker, pub and sub against a real one."""
