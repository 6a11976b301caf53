//! `meta messages`: measures what messages between processes cost, and models runs of many processes.
//!
//! A model, not a measurement. One iteration of `n` processes with a chunk each takes `t + c(n)`: `t` is a chunk's
//! time in a run that one process has done, and `c` the messages, of `m` bytes in `p` parts,
//!
//! ```text
//! c(n) = (n + p − 2) (α + (m / p) (γ + 1 / B))      along the chain, part by part
//!      + (⌈log₂ n⌉ + p − 1) (α + (m / p) / B)       the sum, to all
//!      + ⌈log₂ n⌉ α                                 whether any is asked to stop
//! ```
//!
//! with the time α of an empty message and that of reading, adding and writing a byte, γ, as measured here, and the
//! bytes `B` that a network carries in a second.

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use burn::tensor::{Tensor, TensorData};
use clap::Args;
use meta_core::{
    backend::{ComputeTarget, WithBackend, dispatch},
    params::Params,
    primitives::Primitives,
    processes::Transport,
    stats::median,
    toolkit::Toolkit,
    train::{MESSAGE_PART, message_bytes},
};
use plotters::prelude::*;
use serde_json::Value;

use super::report::{environment_line, number};
use crate::{
    command::Execute,
    failure::{CommandError, Result},
    output::{
        chart::{axes, chart, draw_charts, draw_legend, legend_line, write_picture},
        drawing::{Area, Drawing, Drawn, LINES},
        print,
        units::bytes_text,
    },
    run::{
        folder::{RECORD, TIMING, read_json},
        together::Together,
    },
};

/// Measure messages between two processes, and model how runs would scale to many.
///
/// Start it by `mpirun -n 2`.
#[derive(Debug, Args)]
pub struct MessagesArgs {
    /// Finished runs of one process whose iterations are modelled.
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
    /// Draw the efficiency over the number of processes into this SVG file.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

/// Numbers of processes of the table.
const COUNTS: [usize; 3] = [8, 64, 512];
/// Gbit/s of the networks.
const NETWORKS: [f64; 2] = [10.0, 100.0];
/// Bytes of the messages that are measured.
const SIZES: [usize; 4] = [8, 1 << 13, MESSAGE_PART, 1 << 23];
/// Seconds for which each size is sent to and fro.
const SECONDS: f64 = 0.5;

impl Execute for MessagesArgs {
    /// Measures, and prints the tables.
    ///
    /// # Errors
    /// When there are not two processes, or a run is not finished.
    fn execute<T: Toolkit>(self) -> Result<()> {
        let together = Together::start()?;
        together.close(self.measure(&together))
    }
}

impl MessagesArgs {
    fn measure(&self, together: &Together) -> Result<()> {
        let modelled: Result<Vec<Modelled>> =
            self.runs.iter().map(|run| Modelled::read(run)).collect();
        let modelled = together.agree(modelled)?;
        let transport = together.processes().transport();
        let two = transport.filter(|transport| transport.count() == 2);
        let two = two.ok_or_else(|| {
            CommandError::Usage(
                "expected two processes: `mpirun -n 2 meta messages RUN_DIR…`".to_owned(),
            )
        });
        let transport = match two {
            Ok(transport) => transport,
            Err(error) => return together.agree(Err(error)),
        };
        let mut trips = Vec::new();
        for size in SIZES {
            trips.push((size, one_way(transport.as_ref(), size)?));
        }
        let byte = dispatch(&ComputeTarget::of("flex"), Hop)
            .or_else(|_| dispatch(&ComputeTarget::of("ndarray"), Hop))?;
        if !together.is_first() {
            return Ok(());
        }
        let costs = Costs {
            empty: trips[0].1,
            byte,
        };
        if let Some(path) = &self.plot {
            write_picture(path, &draw(&modelled, costs)?)?;
        }
        print(&tables(&trips, costs, &modelled))
    }
}

/// Seconds of a message of `size` bytes from one of two processes to the other: half of the median way to and fro.
fn one_way(transport: &dyn Transport, size: usize) -> Result<f64> {
    let message = vec![1u8; size];
    let other = 1 - transport.rank();
    let mut seconds = Vec::new();
    let begun = Instant::now();
    loop {
        let started = Instant::now();
        if transport.rank() == 0 {
            transport.send(other, &message)?;
            transport.receive(other)?;
        } else {
            transport.receive(other)?;
            transport.send(other, &message)?;
        }
        seconds.push(started.elapsed().as_secs_f64() / 2.0);
        // Both hear when the first one has enough.
        let enough = seconds.len() >= 10 && begun.elapsed().as_secs_f64() > SECONDS;
        if transport.broadcast(0, vec![u8::from(enough)])?.contains(&1) {
            return Ok(median(&seconds));
        }
    }
}

/// Seconds that a process takes for each byte of a meta-gradient that passes through it: it is read, averaged with
/// its own, and written.
struct Hop;

impl WithBackend for Hop {
    type Output = f64;

    fn run<B: Primitives>(self, device: B::Device) -> f64 {
        let count = MESSAGE_PART / size_of::<f32>();
        let own = Tensor::<B, 2>::ones([1, count], &device);
        let mut params = Params::<B>::default();
        params.push("a", own);
        let received: Vec<u8> = params.to_data()[0].1.as_bytes().to_vec();
        let hop = || {
            let (name, like) = params.to_data().remove(0);
            let data = TensorData::from_bytes_vec(received.clone(), like.shape, like.dtype);
            let before = Params::<B>::from_data(vec![(name, data)], &device);
            let folded = before.mix(0.5, &params).to_data();
            let mut bytes = Vec::new();
            bytes.extend_from_slice(folded[0].1.as_bytes());
            bytes.len()
        };
        let mut seconds = Vec::new();
        for _ in 0..50 {
            let started = Instant::now();
            let bytes = hop();
            seconds.push(started.elapsed().as_secs_f64() / bytes as f64);
        }
        median(&seconds)
    }
}

/// What messages cost.
#[derive(Clone, Copy)]
struct Costs {
    /// Seconds of an empty message: α.
    empty: f64,
    /// Seconds of reading, adding and writing a byte: γ.
    byte: f64,
}

impl Costs {
    /// Seconds of the messages of an iteration, by the model.
    fn communication(self, processes: usize, bytes: f64, gigabits: f64) -> f64 {
        let n = processes as f64;
        let carried = 8.0 / (gigabits * 1e9);
        let parts = (bytes / MESSAGE_PART as f64).ceil();
        let part = bytes / parts;
        let rounds = n.log2().ceil();
        (n + parts - 2.0) * (self.empty + part * (self.byte + carried))
            + (rounds + parts - 1.0) * (self.empty + part * carried)
            + rounds * self.empty
    }
}

/// An iteration of a run that is finished.
struct Modelled {
    /// Encoder, learner.
    name: String,
    parameters: u64,
    /// Tasks of a chunk.
    tasks: u64,
    /// Seconds of a chunk.
    chunk: f64,
    /// Bytes of a message.
    bytes: f64,
}

impl Modelled {
    fn read(run: &Path) -> Result<Self> {
        let record = read_json(&run.join(RECORD))?;
        let name = |section: &str| record["manifest"][section]["name"].as_str().unwrap_or("–");
        let of = |value: &Value, what: &str| {
            value.as_u64().filter(|&number| number > 0).ok_or_else(|| {
                CommandError::Usage(format!("{}: {RECORD} has no {what}", run.display()))
            })
        };
        let parameters = of(&record["parameters"], "number of parameters")?;
        let tasks = of(&record["task_chunk"], "task_chunk")?;
        let batch = of(
            &record["manifest"]["train"]["meta_batch"],
            "train.meta_batch",
        )?;
        let seconds = seconds_of_iteration(run)?;
        Ok(Modelled {
            name: format!("{}, {}", name("encoder"), name("learner")),
            parameters,
            tasks,
            chunk: seconds / batch.div_ceil(tasks) as f64,
            bytes: message_bytes(parameters, batch) as f64,
        })
    }

    fn efficiency(&self, costs: Costs, processes: usize, gigabits: f64) -> f64 {
        self.chunk / (self.chunk + costs.communication(processes, self.bytes, gigabits))
    }
}

/// Median seconds of an iteration between the lines of a run's times: validations are beside it.
fn seconds_of_iteration(run: &Path) -> Result<f64> {
    let path = run.join(TIMING);
    let text = meta_core::files::read_text(&path, 1 << 30)?;
    let lines: Vec<Value> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let between = lines.windows(2).filter_map(|pair| {
        let at =
            |line: &Value| Some((line["iteration"].as_f64()?, line["train_seconds"].as_f64()?));
        let ((from, started), (to, ended)) = (at(&pair[0])?, at(&pair[1])?);
        (to > from && ended > started).then(|| (ended - started) / (to - from))
    });
    let between: Vec<f64> = between.collect();
    if between.is_empty() {
        let message = format!(
            "{}: expected the times of two iterations or more",
            path.display()
        );
        return Err(CommandError::Usage(message));
    }
    Ok(median(&between))
}

fn tables(trips: &[(usize, f64)], costs: Costs, modelled: &[Modelled]) -> String {
    let mut out = format!(
        "{} Messages between two processes of this machine; reading, adding and writing a megabyte takes {} ms.\n\n\
         | bytes | µs one way |\n|--:|--:|\n",
        environment_line(),
        number(costs.byte * 1e9),
    );
    for (size, seconds) in trips {
        out.push_str(&format!("| {size} | {} |\n", number(seconds * 1e6)));
    }
    out.push_str(
        "\nModelled: a chunk of the meta-batch for each process, and what messages add.\n\n\
         | run | parameters | message | ms of a chunk | processes | Gbit/s | ms of messages | efficiency |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for run in modelled {
        for gigabits in NETWORKS {
            for count in COUNTS {
                let messages = costs.communication(count, run.bytes, gigabits);
                out.push_str(&format!(
                    "| {} | {} | {} | {} ({} tasks) | {count} | {gigabits:.0} | {} | {:.0} % |\n",
                    run.name,
                    run.parameters,
                    bytes_text(run.bytes as u64),
                    number(run.chunk * 1e3),
                    run.tasks,
                    number(messages * 1e3),
                    100.0 * run.efficiency(costs, count, gigabits),
                ));
            }
        }
    }
    out
}

/// Efficiency over the number of processes, a line for each run and network.
fn draw(modelled: &[Modelled], costs: Costs) -> Result<Drawing> {
    let title = "modelled: share of an iteration that is not messages";
    draw_charts((640.0, 400.0), title, &[], |area| {
        draw_lines(area, modelled, costs)
    })
}

fn draw_lines(area: &Area, modelled: &[Modelled], costs: Costs) -> Drawn {
    let mut chart =
        chart(area).build_cartesian_2d((1.0..1024.0).log_scale().base(2.0), 0.0..1.0)?;
    axes(&mut chart, "processes, a chunk each", "efficiency")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .y_label_formatter(&|y| format!("{:.0} %", 100.0 * y))
        .draw()?;
    let lines = modelled
        .iter()
        .flat_map(|run| NETWORKS.map(|gigabits| (run, gigabits)));
    for ((run, gigabits), colour) in lines.zip(LINES.iter().cycle()) {
        let points = (0..=10).map(|power| {
            let count = 1usize << power;
            let share = match count {
                1 => 1.0,
                count => run.efficiency(costs, count, gigabits),
            };
            (count as f64, share)
        });
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(format!("{}, {gigabits:.0} Gbit/s", run.name))
            .legend(legend_line(colour.stroke_width(2)));
    }
    draw_legend(&mut chart, SeriesLabelPosition::LowerLeft)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two processes send one message and one back; many parts cost no more than the chain's length.
    #[test]
    fn the_model_has_its_limits() {
        let costs = Costs {
            empty: 1e-5,
            byte: 0.0,
        };
        let seconds = costs.communication(2, 1e6, 8.0);
        // Eight parts, one after the other, there and back.
        let expected = 8.0 * (1e-5 + 1e-3 / 8.0) + 8.0 * (1e-5 + 1e-3 / 8.0) + 1e-5;
        assert!((seconds - expected).abs() < 1e-12, "{seconds}");
        let whole = 512.0 * (1 << 25) as f64 / 1e9;
        assert!(costs.communication(512, (1 << 25) as f64, 8.0) < whole / 5.0);
        assert!(costs.communication(64, 1e6, 100.0) < costs.communication(512, 1e6, 100.0));
    }
}
