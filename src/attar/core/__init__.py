"""Everything that is not science: run loop, files, seeds, devices, progress, errors, settings, registry."""
