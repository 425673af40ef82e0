"""docs/examples, run as their readers run them: as programs, against a broker that is a process of its own."""
