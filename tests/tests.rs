//! The one integration binary: a module per topic, so that everything links once.

mod embed;
mod support;
