"""Reading tables: files, data frames, schemas, and the simulated one."""
