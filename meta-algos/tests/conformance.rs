//! The conformance suite on the learners of this crate. (Meta-gradients against central differences:
//! `f64.rs`.)

meta_core::conformance_suite!(meta_algos::BuiltIn);

/// The suite of policies.
mod acting {
    meta_core::acting_suite!(meta_algos::BuiltIn);
}
