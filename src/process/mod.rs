//! Child processes: one spawner thread, process groups, death signals, reaping, ordered stop.
