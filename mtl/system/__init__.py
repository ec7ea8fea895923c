"""The machine a run uses: hardware, memory and disk estimates, provenance."""
