//! The configuration: registry:2's YAML file, the `REGISTRY_*` variables over it, defaults below.
