//! The store in this process, on this disk: durable writes one at a time and many at once, and their bytes.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bramble::api::{Key, Object, registry};
use bramble::store::{self, Op, Options, Store};
use serde_json::json;

use crate::Setup;
use crate::table::{Table, quantiles};

/// Writers at once: as many as connections may write at once on a busy master.
const WRITERS: usize = 64;

pub fn measure(setup: &Setup, table: &mut Table) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("bramble-figures-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(store::disk::journal(&folder.path().join("store")), Options::default()).await?;
        let sync = sync_time(folder.path(), setup.choose(200, 50))?;
        let empty = bytes(folder.path());

        let many = setup.choose(500, 100);
        let mut times = Vec::with_capacity(many);
        for number in 0..many {
            let begun = Instant::now();
            store.write(change(&format!("one-{number}"))?.into()).await?;
            times.push(begun.elapsed());
        }
        let grown = bytes(folder.path()).saturating_sub(empty);
        let object = change("any")?;
        let size = object_size(&object);
        table.row(
            "a durable write, one at a time",
            "",
            &quantiles(&times),
            &format!(
                "{many} config maps of {size} bytes, fsync on; append and fsync of 1 kB to a file here: {}",
                quantiles(&sync)
            ),
        );
        table.row(
            "bytes on disk a change",
            "",
            &format!("{} for an object of {size}", grown / many as u64),
            "the log, before a checkpoint",
        );

        let each = setup.choose(200, 40);
        let begun = Instant::now();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            writers.spawn(async move {
                for number in 0..each {
                    store.write(change(&format!("many-{writer}-{number}"))?.into()).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended??;
        }
        let time = begun.elapsed();
        table.row(
            &format!("durable writes of {WRITERS} writers at once"),
            "",
            &format!("{:.0} a second", (WRITERS * each) as f64 / time.as_secs_f64()),
            "changes that arrive together share one fsync",
        );
        store.close().await?;
        anyhow::Ok(())
    })
}

fn change(name: &str) -> anyhow::Result<Op> {
    let object = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"},
        "data": {"text": "x".repeat(900)},
    });
    let object = Object::from_value(object).context("an object")?;
    Ok(Op::create(Key::new(&registry::CONFIG_MAPS, "default", name), object))
}

fn object_size(op: &Op) -> usize {
    match &op.change {
        store::Change::Put(object) => object.to_value().to_string().len(),
        store::Change::Delete => 0,
    }
}

/// What the disk itself takes.
fn sync_time(folder: &Path, times: usize) -> anyhow::Result<Vec<Duration>> {
    use std::io::Write as _;
    let mut file = std::fs::File::create(folder.join("probe"))?;
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        file.write_all(&[7; 1024])?;
        file.sync_data()?;
        taken.push(begun.elapsed());
    }
    std::fs::remove_file(folder.join("probe"))?;
    Ok(taken)
}

/// The sum of the lengths of all files there.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => bytes(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}
