//! Hands: a container's log, as `kubectl logs` asks for it.

use std::pin::pin;

use bollard::Docker;
use bollard::query_parameters::LogsOptions;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::sync::mpsc;

use super::{QUICK, Shared};
use crate::agent::runtime::Failure;
use crate::agent::runtime::tail::Tail;
use crate::api::{Uid, time};
use crate::link::call::{CallError, LogRequest};

impl Shared {
    pub(super) async fn read_log(
        &self,
        request: &LogRequest,
        out: &mpsc::Sender<Result<Bytes, CallError>>,
    ) -> Result<(), CallError> {
        let failed = |failure: Failure| CallError::Failed(failure.to_string());
        let docker = self.client().await.map_err(failed)?;
        let mut runs: Vec<(u32, String)> = self
            .list(&docker, Some(&Uid::from(request.pod_uid.as_str())))
            .await
            .map_err(failed)?
            .into_iter()
            .filter(|(_, labels)| labels.container == request.container)
            .map(|(id, labels)| (labels.attempt, id))
            .collect();
        runs.sort();
        let newest = runs.pop();
        let wanted = if request.previous { runs.pop() } else { newest };
        let Some((_, id)) = wanted else {
            return Err(CallError::NotFound(if request.previous {
                format!("previous terminated container \"{}\" in pod \"{}\" not found", request.container, request.pod_uid)
            } else {
                format!("container \"{}\" in pod \"{}\" is waiting to start", request.container, request.pod_uid)
            }));
        };
        let since = match request.since_seconds {
            Some(seconds) => wall_seconds(&docker, self).await.map_err(failed)?.saturating_sub_unsigned(seconds),
            None => 0,
        };
        let options = LogsOptions {
            follow: request.follow,
            stdout: true,
            stderr: true,
            since: i32::try_from(since).unwrap_or_default(),
            until: 0,
            timestamps: request.timestamps,
            tail: request.tail_lines.map_or_else(|| "all".to_owned(), |lines| lines.to_string()),
        };
        let mut left = request.limit_bytes.unwrap_or(u64::MAX);
        let counted = request.tail_lines.filter(|_| !request.follow && self.engine().miscounts_tails());
        let mut tail = counted.map(|lines| Tail::new(usize::try_from(lines).unwrap_or(usize::MAX)));
        let mut stream = pin!(docker.logs(&id, Some(options)));
        while left > 0 {
            let chunk = tokio::select! {
                chunk = stream.next() => chunk,
                () = out.closed() => return Ok(()),
            };
            let Some(chunk) = chunk else { break };
            let bytes = match chunk {
                Ok(output) => output.into_bytes(),
                Err(error) => return Err(failed(self.failure(&error))),
            };
            match &mut tail {
                Some(tail) => tail.push(bytes),
                None if pass_on(bytes, &mut left, out).await => {}
                None => return Ok(()),
            }
        }
        for bytes in tail.into_iter().flat_map(Tail::into_pieces) {
            if left == 0 || !pass_on(bytes, &mut left, out).await {
                break;
            }
        }
        Ok(())
    }
}

/// Passes on what of it is still wanted; whether somebody listens.
async fn pass_on(mut bytes: Bytes, left: &mut u64, out: &mpsc::Sender<Result<Bytes, CallError>>) -> bool {
    bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
    *left -= bytes.len() as u64;
    out.send(Ok(bytes)).await.is_ok()
}

/// Docker's own idea of the present, in seconds: its log times are compared with it.
async fn wall_seconds(docker: &Docker, shared: &Shared) -> Result<i64, Failure> {
    let info = shared.ask(QUICK, docker.info()).await?;
    let now = info.system_time.as_deref().and_then(time::parse).unwrap_or_default();
    Ok(now.0.div_euclid(1000))
}
