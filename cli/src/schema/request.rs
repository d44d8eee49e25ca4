//! From a folder of namespace documents to what is wanted of each dataset.

use std::io;
use std::path::Path;

use tallyman_counter::backend::cassandra::schema::datasets::{Requested, requested};
use tallyman_counter::backend::cassandra::schema::plan::{Replication, Role, Wanted};
use tallyman_counter::backend::cassandra::schema::roles;
use tallyman_counter::configuration::{Directory, Loaded};
use tallyman_counter::retention::Ahead;

use super::arguments::Namespaces;
use crate::failure::Failure;

/// What a folder asks for, and what is wrong with the rest of it.
pub struct Request {
    pub datasets: Vec<Requested>,
    pub failures: Vec<Failure>,
}

impl Request {
    /// Reads the folder. A document that is wrong, or namespaces that do not agree, hold up no other dataset.
    pub fn read(folder: &Path) -> Result<Self, Failure> {
        let directory = Directory::new(folder);
        let (loaded, _) = directory.reconcile(&Loaded::default(), &directory.read());
        if loaded.namespaces.is_empty() && loaded.problems.is_empty() {
            let remedy = "name a folder of *.json, one namespace document each (docs/configuration.md)";
            return Err(Failure::local(format!("{} holds no namespace document", folder.display())).with_remedy(remedy));
        }
        let requests = requested(loaded.namespaces.values().map(AsRef::as_ref));
        let problems = loaded.problems.iter().map(|problem| Failure::local(problem.to_string()));
        let disagreements = requests.disagreements.iter().map(|disagreement| {
            Failure::local(disagreement.to_string())
                .with_remedy("make the documents agree; nothing was changed for this dataset")
        });
        Ok(Self { datasets: requests.datasets, failures: problems.chain(disagreements).collect() })
    }
}

/// What is wanted of a dataset, and what is to be said about it. `usual` is the replication where none was asked for.
pub fn wanted(
    dataset: Requested,
    namespaces: &Namespaces,
    usual: Replication,
) -> Result<(Wanted, Vec<String>), Failure> {
    let asked: Replication = namespaces.replication.iter().cloned().collect();
    if !asked.is_empty() && !asked.contains_key(&dataset.local_datacenter) {
        return Err(Failure::local(format!(
            "dataset {}: --replication names no replicas in {}, the local datacenter, whose quorum is to acknowledge",
            dataset.keyspace, dataset.local_datacenter
        )));
    }
    let mut notes = Vec::new();
    let role = role(&dataset, &mut notes)?;
    let wanted = Wanted {
        must_exist: false,
        dataset,
        replication: if asked.is_empty() { usual } else { asked },
        owner: namespaces.owner.clone(),
        role,
        ahead: Ahead { span: namespaces.ahead, ..Ahead::USUAL },
    };
    Ok((wanted, notes))
}

/// The role that the documents' credentials file names. The documents may be those of other machines, which have the file.
fn role(dataset: &Requested, notes: &mut Vec<String>) -> Result<Option<Role>, Failure> {
    let Some(file) = &dataset.credentials_file else { return Ok(None) };
    if file.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        notes.push(format!(
            "the credentials_file of dataset {}, {}, is not on this machine: its role is not looked at",
            dataset.keyspace,
            file.display()
        ));
        return Ok(None);
    }
    roles::of_file(file).map(Some).map_err(|reason| {
        Failure::local(format!(
            "dataset {}: the credentials_file {} cannot be used: {reason}",
            dataset.keyspace,
            file.display()
        ))
    })
}
