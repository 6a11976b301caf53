//! `meta` with a learner, an encoder, a data source and an optimiser more: what a crate of your own
//! needs.

meta_core::toolkit! {
    /// The toolkit and what this crate adds to it.
    pub struct Mine: meta_algos::BuiltIn;
    learners { median_net::MedianNetSettings }
    encoders { Fourier = fourier::{FourierSettings, Fourier} }
    sources { arcs::ArcsSettings }
    optimizers { lion::LionSettings }
}

fn main() -> std::process::ExitCode {
    meta_bench::main_with::<Mine>()
}

#[cfg(test)]
mod tests {
    meta_core::conformance_suite!(super::Mine);
}
