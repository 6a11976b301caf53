//! The meta-learners, one file each, and the list of them.
//!
//! A learner's file holds its equations, its settings and how it learns; a line in the list below puts
//! it into the binary, the manifests, the tables of the documentation and the conformance suite. Read
//! [`protonet`] first, then [`maml`].

#[cfg(test)]
mod toy;

/// Embeds the items of a large task in two halves (`SinglePass::embeds_apart`): of a rule with an `architecture` that
/// compares what the `encoder` of its model makes of them.
macro_rules! embeds_items_apart {
    () => {
        fn embeds_apart(&self) -> Option<usize> {
            self.architecture.activations_apart()
        }

        fn embed<L: ::meta_core::primitives::Primitives>(
            &self,
            model: &Self::Model<L>,
            items: ::burn::tensor::Tensor<L, 3>,
            pass: &::meta_core::nn::Pass<L>,
        ) -> ::burn::tensor::Tensor<L, 3> {
            ::meta_core::nn::encoder::Encoder::forward(&model.encoder, items, pass)
        }
    };
}
use embeds_items_apart;

use meta_core::{
    Result,
    learner::{Learner, LearnerEntry, LearnerList, New},
    nn::encoder::{Architecture, EncoderSpec},
    primitives::Primitives,
    rng::Seed,
    task::TaskSpec,
    toolkit::Toolkit,
};
use serde_json::Value;

meta_core::learners! {
    /// Settings of one of the learners of this crate.
    pub enum BuiltInLearners {
        anil::AnilSettings,
        ataml::AtamlSettings,
        cavia::CaviaSettings,
        imaml::ImamlSettings,
        maml::MamlSettings,
        maml_pp::MamlPpSettings,
        meta_lstm::MetaLstmSettings,
        meta_sgd::MetaSgdSettings,
        reptile::ReptileSettings,
        feat::FeatSettings,
        distributional_signatures::DistributionalSignaturesSettings,
        hatt::HattSettings,
        induction_net::InductionNetSettings,
        matching_net::MatchingNetSettings,
        protonet::ProtoNetSettings,
        relation_net::RelationNetSettings,
        ridge::RidgeSettings,
        siamese::SiameseSettings,
        mann::MannSettings,
        snail::SnailSettings,
        in_context::InContextSettings,
        mlc::MlcSettings,
        cnp::CnpSettings,
        anp::AnpSettings,
        tnp::TnpSettings,
        pfn::PfnSettings,
        meta_attention::MetaAttentionSettings,
        multimodal_protonet::MultimodalProtoNetSettings,
        task_attention::TaskAttentionSettings,
        task_relations::TaskRelationsSettings,
        task_transformer::TaskTransformerSettings,
        nearest_centroid::NearestCentroidSettings,
        knn::KnnSettings,
        gaussian_process::GaussianProcessSettings,
        boosted_trees::BoostedTreesSettings,
        logistic::LogisticSettings,
        lda::LdaSettings,
        tip_adapter::TipAdapterSettings,
        baseline::BaselineSettings,
        baseline_pp::BaselinePpSettings,
        laplacian_shot::LaplacianShotSettings,
        bd_cspn::BdCspnSettings,
        tim::TimSettings,
        pt_map::PtMapSettings,
        dpt::DptSettings,
        rl2::Rl2Settings,
        snail_policy::SnailPolicySettings,
        maml_rl::MamlRlSettings,
        reference_policy::ReferencePolicySettings,
    }
}

/// The toolkit as it comes: the learners of this crate, the encoders, sources and optimisers of
/// `meta-core`.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn;

impl Toolkit for BuiltIn {
    type Learners = BuiltInLearners;
    type Encoders = EncoderSpec;
}

/// All learners of this crate.
pub fn learners() -> Vec<LearnerEntry> {
    BuiltInLearners::entries()
}

/// Builds the learner called `name` with `settings` (an object) for tasks of `spec`, with parameters
/// drawn from `seed`.
///
/// # Errors
/// [`Error::Unknown`](meta_core::Error::Unknown) for a name or key that does not exist,
/// [`Error::Setting`](meta_core::Error::Setting) for a value that cannot be used.
pub fn build<A: Architecture, B: Primitives>(
    name: &str,
    settings: &Value,
    architecture: A,
    spec: &TaskSpec,
    seed: Seed,
    device: &B::Device,
) -> Result<Box<dyn Learner<B>>> {
    let learner = BuiltInLearners::new(name, settings)?;
    learner.check(&architecture, spec)?;
    Ok(learner.build(New {
        architecture,
        spec,
        seed,
        device,
    }))
}

#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
