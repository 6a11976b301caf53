//! From the arguments to a server with a model.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc::sync_channel},
};

use meta_core::{data::Task, toolkit::Toolkit};
use serde_json::json;
use tokio::sync::watch;

use super::{
    ServeArgs,
    counts::Counts,
    http::{Service, serve},
    queue::work,
};
use crate::{
    experiment::start_threads,
    failure::{CommandError, Result},
    output::print,
    use_trained::{
        session::with_answerer,
        trained::{Fitted, TrainedLearner},
    },
};

impl ServeArgs {
    /// Serves until a signal asks for the end.
    pub(super) fn start<T: Toolkit>(self) -> Result<()> {
        let mut trained = TrainedLearner::<T>::open_with(&self.trained, &self.overrides)?;
        start_threads(trained.manifest.run.threads)?;
        let fitted = self.support.fitted(&mut trained, &self.trained, &[])?;
        let address = SocketAddr::new(self.host, self.port);
        let refused = |error: std::io::Error| {
            CommandError::Usage(format!(
                "cannot listen on {address}: {error}; another --port may be free"
            ))
        };
        let listener = TcpListener::bind(address).map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let (stop, stopped) = watch::channel(false);
        let stop = Arc::new(stop);
        listen_for_signals(stop.clone())?;
        let counts = Arc::new(Counts::default());
        let (sender, jobs) = sync_channel(self.limits.max_requests as usize);
        let service = Service {
            limits: self.limits,
            preparation: trained.preparation.clone(),
            header: trained.header(&fitted, false),
            about: about(&trained, &fitted),
            top: self.top as usize,
            hosts: self.hosts(),
            counts: counts.clone(),
            jobs: sender,
            stop: stopped,
        };
        with_answerer(&trained, &fitted, false, |answer| {
            let spawned = std::thread::Builder::new()
                .name("connections".to_owned())
                .spawn(move || serve(listener, service));
            let spawned = spawned.map_err(|error| {
                CommandError::Usage(format!("no thread can be started: {error}"))
            })?;
            let learner = &trained.manifest.learner.name;
            eprintln!("{learner} answers until Ctrl-C; the page, and where programs ask:");
            print(&format!("http://{address}\n"))?;
            // A failure of the model ends the process, with the error of the command.
            work(&jobs, &counts, answer, |names, top, found| {
                trained.wording(&fitted, top).answers(names, found)
            });
            let ended = spawned.join().map_err(|_| {
                CommandError::Usage("the threads of the server have failed".to_owned())
            })?;
            ended.map_err(|error| CommandError::Usage(format!("the server has failed: {error}")))
        })?;
        eprintln!("stopped; what was accepted is answered");
        Ok(())
    }

    /// The names by which requests may know the server; empty where it listens to everybody and nobody said.
    fn hosts(&self) -> Vec<String> {
        if self.host.is_unspecified() && self.name.is_empty() {
            return Vec::new();
        }
        let own = ["localhost".to_owned(), self.host.to_string()];
        own.into_iter().chain(self.name.clone()).collect()
    }
}

/// What `/info` says of a learner beside the header of answers.
fn about<T: Toolkit>(trained: &TrainedLearner<T>, fitted: &Fitted) -> serde_json::Value {
    let (task, classes) = match trained.task() {
        Task::Classification => ("classification", Some(&fitted.classes)),
        Task::Regression { .. } => ("regression", None),
        Task::Sequences { .. } => ("sequences", None),
        Task::Acting { .. } => ("acting", None),
    };
    let mut about = json!({
        "task": task,
        "features": trained.preparation.features(),
        "support": fitted.support.len(trained.task()),
        "version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(classes) = classes {
        about["classes"] = json!(classes);
    }
    about
}

/// The first signal ends the server once what is accepted is answered; a second one ends it at once.
fn listen_for_signals(stop: Arc<watch::Sender<bool>>) -> Result<()> {
    ctrlc::set_handler(move || {
        if stop.send_replace(true) {
            eprintln!("error: interrupted twice; stopped at once");
            std::process::exit(130);
        }
    })
    .map_err(|error| CommandError::Usage(format!("cannot listen for Ctrl-C: {error}")))
}
