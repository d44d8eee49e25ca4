//! All that an object has been, as the API server tells those who watch it. Nothing in between is missed, however short it was.

use std::sync::{Arc, Mutex};

use futures::StreamExt;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use serde_json::Value;
use tokio::task::JoinHandle;

use super::Area;

/// Told from the moment on at which it was begun, until it is dropped.
pub struct History<'a> {
    area: &'a Area<'a>,
    kind: &'static str,
    name: String,
    told: Arc<Mutex<Told>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Told {
    states: Vec<Value>,
    is_gone: bool,
}

impl<'a> History<'a> {
    /// Begins that of an object, which is not to be there yet.
    pub async fn begin(area: &'a Area<'a>, kind: &'static str, name: &str) -> Self {
        let api = area.api(kind);
        let fields = format!("metadata.name={name}");
        let list = api.list(&ListParams::default().fields(&fields)).await.unwrap();
        assert!(list.items.is_empty(), "there was a {kind} {name} before its history was begun");
        let told = Arc::new(Mutex::new(Told::default()));
        let version = list.metadata.resource_version.unwrap();
        let task = tokio::spawn(listen(api, WatchParams::default().fields(&fields), version, Arc::clone(&told)));
        Self { area, kind, name: name.to_owned(), told, task }
    }

    /// Each state up to what the object is now, or was last.
    pub async fn until_now(&self) -> Vec<Value> {
        let now = self.area.find(self.kind, &self.name).await;
        self.area
            .wait_for(&format!("what became of {} {}", self.kind, self.name), async || {
                assert!(!self.task.is_finished(), "the watch of {} {} has ended", self.kind, self.name);
                let told = self.told.lock().unwrap();
                let last = told.states.last().map_or(0, version);
                let is_all = now.as_ref().map_or(told.is_gone || told.states.is_empty(), |now| last >= version(now));
                if is_all { Ok(told.states.clone()) } else { Err(format!("it was told until {last}, of {now:?}")) }
            })
            .await
    }
}

impl Drop for History<'_> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The number of the change that made an object what it is. As etcd counts all changes of a cluster together, it tells the order of
/// those of different objects, too.
pub fn version(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse().ok()).unwrap()
}

/// The API server ends each watch after some minutes; the next goes on where it ended.
async fn listen(api: Api<DynamicObject>, what: WatchParams, mut version: String, told: Arc<Mutex<Told>>) {
    loop {
        let mut events = api.watch(&what, &version).await.unwrap().boxed();
        while let Some(event) = events.next().await {
            let (object, is_gone) = match event.unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                // Nothing has changed for a while. What changed before that is forgotten some time.
                WatchEvent::Bookmark(bookmark) => {
                    version = bookmark.metadata.resource_version;
                    continue;
                }
                WatchEvent::Error(error) => panic!("the watch fails: {error:?}"),
            };
            version = object.metadata.resource_version.clone().unwrap();
            let mut told = told.lock().unwrap();
            told.is_gone = is_gone;
            if !is_gone {
                told.states.push(serde_json::to_value(object).unwrap());
            }
        }
    }
}
