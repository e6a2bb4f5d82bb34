//! Names to tables, sources, views, sinks, pipelines.
