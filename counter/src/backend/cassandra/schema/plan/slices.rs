//! Which slices are to be created, closed and dropped: what [`retention`](crate::retention) will do, foretold.

use super::super::slices::{insert_text, update_text};
use super::super::tables::{Table, events_start};
use super::{Action, Found, Plan, Refusal, Step, Wanted};
use crate::model::{SliceRecord, SliceState, Slices, Timestamp};
use crate::retention;

pub(super) fn plan(wanted: &Wanted, found: &Found, now: Timestamp, plan: &mut Plan) -> Result<(), Refusal> {
    let dataset = &wanted.dataset;
    if let Some(other) = found.slices.keys().find(|region| **region != dataset.region) {
        return Err(Refusal::OtherRegion {
            dataset: dataset.keyspace.clone(),
            found: other.clone(),
            wanted: dataset.region.clone(),
        });
    }
    let records = found.slices.get(&dataset.region).cloned().unwrap_or_default();
    for record in &records {
        recorded(wanted, found, record, plan)?;
    }
    for name in found.tables.keys() {
        let start = events_start(name).filter(|start| !records.iter().any(|record| record.start == *start));
        if start.is_some() {
            plan.notes.push(format!("table {}.{name} belongs to no slice and is left alone", dataset.keyspace));
        }
    }
    let slices = Slices::new(records);
    let missing = retention::missing(slices.end(), now, dataset.time_partition, wanted.ahead).unwrap_or_default();
    for record in missing {
        create(wanted, found, record, plan);
    }
    for (record, state) in retention::due(&slices, now, dataset.retention) {
        let (keyspace, start) = (&dataset.keyspace, record.start);
        let why = match state {
            SliceState::Dropped => {
                format!("it ended at {}, and events are deleted after {:?}", record.end, dataset.retention.delete_after)
            }
            _ => format!(
                "it ended at {}, and slices close after {:?}; before that every counter written in it is rolled up past its end, or the slice is kept",
                record.end, dataset.retention.close_after
            ),
        };
        plan.slices.push(Step {
            action: Action::MoveSlice { start, state },
            cql: update_text(keyspace, &dataset.region, start, state),
            why,
        });
        if state == SliceState::Dropped {
            drop_table(wanted, &record, "its slice is dropped", plan);
        }
    }
    Ok(())
}

/// A slice that is recorded: its table as it should be by now.
fn recorded(wanted: &Wanted, found: &Found, record: &SliceRecord, plan: &mut Plan) -> Result<(), Refusal> {
    let table = Table::events(&wanted.dataset.keyspace, record.start, record.end);
    match (found.tables.get(&table.name), record.state) {
        (Some(there), state) => {
            if let Some(differs) = table.differs(there) {
                return Err(Refusal::foreign_table(&table, differs));
            }
            if state == SliceState::Dropped {
                drop_table(wanted, record, "its slice is dropped, and the table was left behind or came late", plan);
            } else {
                plan.notes.extend(table.dangers(there));
            }
        }
        (None, SliceState::Open) => create_table(table, found, "its slice is recorded, and the table was not created", plan),
        (None, SliceState::Closed) => plan.notes.push(format!(
            "table {}.{} is missing though its slice is not dropped: its events are gone, and reads that need them fail",
            table.keyspace, table.name
        )),
        (None, SliceState::Dropped) => {}
    }
    Ok(())
}

fn create(wanted: &Wanted, found: &Found, record: SliceRecord, plan: &mut Plan) {
    let dataset = &wanted.dataset;
    let table = Table::events(&dataset.keyspace, record.start, record.end);
    plan.slices.push(Step {
        cql: insert_text(&dataset.keyspace, &dataset.region, &record),
        why: format!(
            "slices are recorded ahead of time: this one takes events from {} to {}",
            record.start, record.end
        ),
        action: Action::RecordSlice(record),
    });
    create_table(table, found, "it holds the events of that slice", plan);
}

fn create_table(table: Table, found: &Found, why: &str, plan: &mut Plan) {
    plan.slices.push(Step { cql: table.create(found.known), why: why.to_owned(), action: Action::CreateTable(table) });
}

fn drop_table(wanted: &Wanted, record: &SliceRecord, why: &str, plan: &mut Plan) {
    let table = Table::events(&wanted.dataset.keyspace, record.start, record.end);
    plan.slices.push(Step { cql: table.drop(), why: why.to_owned(), action: Action::DropTable(table) });
}
