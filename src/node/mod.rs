//! Which role this node runs, and the order in which it starts and drains.
