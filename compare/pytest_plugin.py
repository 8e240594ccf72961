"""The pytest plug-in: the fixture `parity`."""
