//! Where answers are generated.
