"""Everything that is not science: run loop, store, seeds, devices, progress, errors, settings, registry."""
