"""The machine: hardware, libraries, resource estimates, provenance of results."""
