//! Role app: the REST API, one file per resource.
