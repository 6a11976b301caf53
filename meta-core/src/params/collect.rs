//! From a module to its parameters and back.

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param},
    tensor::{Tensor, TensorMetadata, backend::Backend},
};

use super::{Entry, Params, primitive, tensor};

/// The path of fields from the root of a module; enum variants do not count.
#[derive(Default)]
struct Path(Vec<String>);

impl Path {
    fn enter(&mut self, name: &str, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.0.push(name.to_owned());
        }
    }

    fn exit(&mut self, container_type: &str) {
        if !container_type.starts_with("Enum:") {
            self.0.pop();
        }
    }

    fn joined(&self) -> String {
        self.0.join(".")
    }
}

struct Collector<B: Backend> {
    path: Path,
    entries: Vec<Entry<B>>,
}

impl<B: Backend> ModuleVisitor<B> for Collector<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.entries.push(Entry {
            name: self.path.joined(),
            tensor: primitive(param.val()),
        });
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }
}

struct Writer<B: Backend> {
    path: Path,
    entries: std::vec::IntoIter<Entry<B>>,
}

impl<B: Backend> ModuleMapper<B> for Writer<B> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let name = self.path.joined();
        let entry = self
            .entries
            .next()
            .unwrap_or_else(|| panic!("no value for parameter `{name}`"));
        assert_eq!(entry.name, name, "order of parameters");
        let expected = param.lazy_shape();
        let found = entry.tensor.shape();
        // The task axis may differ: shared parameters are replaced by one copy per task.
        assert_eq!(
            expected.to_vec()[1..],
            found.to_vec()[1..],
            "shape of `{name}`, {expected:?} expected, {found:?} found"
        );
        // `Param::initialized` keeps a non-leaf value on its graph; `Param::from_tensor` and
        // `load_record` would panic or cut it.
        Param::initialized(param.id, tensor(entry.tensor))
    }

    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.path.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, container_type: &str) {
        self.path.exit(container_type);
    }
}

impl<B: Backend> Params<B> {
    /// The float tensors of `module`, in the order of its fields.
    pub fn of<M: Module<B>>(module: &M) -> Self {
        let mut collector = Collector {
            path: Path::default(),
            entries: Vec::new(),
        };
        module.visit(&mut collector);
        Params {
            entries: collector.entries,
        }
    }

    /// `module` with its float tensors replaced by these, graph and all.
    ///
    /// The task axis may differ from the module's (shared parameters replaced by copies per task).
    ///
    /// # Panics
    /// When names, order or shapes do not belong to `module`.
    pub fn write_into<M: Module<B>>(self, module: M) -> M {
        let mut writer = Writer {
            path: Path::default(),
            entries: self.entries.into_iter(),
        };
        let module = module.map(&mut writer);
        assert!(
            writer.entries.next().is_none(),
            "more values than the module has parameters"
        );
        module
    }
}
