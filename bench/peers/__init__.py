"""The servers that Triode is measured beside; each speaks just enough of triode.v1.json to be driven."""
