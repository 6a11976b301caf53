//! The conformance suite on the learners of this crate. (Meta-gradients against central differences:
//! `f64.rs`.)

meta_core::conformance_suite!(meta_algos::BuiltIn);
