//! The life of streaming queries and pipelines.
