//! The parts of the proto3 JSON mapping that serde's derive does not know. `build.rs` puts these onto the fields.

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, de};

/// Reads `null` as the default, as the mapping demands of every field.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A message that is read from an object alone: serde's derive would take an array for one too, by the order of its fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Reads a message, or `null` as none.
pub(crate) fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Option::<Object<T>>::deserialize(deserializer)?.map(|Object(message)| message))
}

/// Reads a list of messages, or `null` as an empty one.
pub(crate) fn objects<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let objects = Option::<Vec<Object<T>>>::deserialize(deserializer)?.unwrap_or_default();
    Ok(objects.into_iter().map(|Object(message)| message).collect())
}

/// A 64-bit integer: written as a string, since JavaScript's numbers would round it; read as a string or a number.
pub(crate) mod int64 {
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
        Ok(super::optional_int64::deserialize(deserializer)?.unwrap_or_default())
    }
}

/// As [`int64`], for a field that may be absent.
pub(crate) mod optional_int64 {
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::int64::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
        deserializer.deserialize_any(super::Int64Visitor)
    }
}

struct Int64Visitor;

impl Int64Visitor {
    /// 2⁵³: from here on floats skip integers, and what was written may have been another one.
    const EXACT_BELOW: f64 = 9_007_199_254_740_992.0;
}

impl de::Visitor<'_> for Int64Visitor {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer from -9223372036854775808 to 9223372036854775807, as a number or a string")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value).map(Some).map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
    }

    /// The mapping takes `1.0` and `1e3` too: what has no fraction is an integer, as long as it is exact. (Integers beyond 64
    /// bits come here as well.)
    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        if value.fract() == 0.0 && value.abs() < Self::EXACT_BELOW {
            Ok(Some(value as i64))
        } else {
            Err(E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        text.parse().map(Some).map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use crate::proto::*;
    use crate::time::Timestamp;
    use serde_json::{from_value, json, to_value};

    fn add(value: serde_json::Value) -> Result<AddCountRequest, String> {
        from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn requests_are_read_in_camel_case_and_in_snake_case() {
        let expected = AddCountRequest {
            namespace: "likes".to_owned(),
            counter_name: "post/1".to_owned(),
            delta: -3,
            idempotency_token: Some(IdempotencyToken {
                token: "t".to_owned(),
                generation_time: Some(Timestamp { seconds: 1, nanos: 1_000 }),
            }),
        };
        let camel = json!({"namespace": "likes", "counterName": "post/1", "delta": "-3",
            "idempotencyToken": {"token": "t", "generationTime": "1970-01-01T00:00:01.000001Z"}});
        let snake = json!({"namespace": "likes", "counter_name": "post/1", "delta": -3,
            "idempotency_token": {"token": "t", "generation_time": "1970-01-01T00:00:01.000001Z"}});
        assert_eq!(add(camel.clone()), Ok(expected.clone()));
        assert_eq!(add(snake), Ok(expected.clone()));
        assert_eq!(to_value(expected).unwrap(), camel);
    }

    #[test]
    fn every_sint64_is_a_delta_as_number_and_as_string() {
        for delta in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert_eq!(add(json!({"delta": delta})).unwrap().delta, delta);
            assert_eq!(add(json!({"delta": delta.to_string()})).unwrap().delta, delta);
        }
        assert_eq!(add(json!({"delta": 1e3})).unwrap().delta, 1_000);
    }

    #[test]
    fn a_delta_that_is_no_sint64_is_refused_with_what_is_allowed() {
        for delta in [
            json!("x"),
            json!(1.5),
            json!(9_223_372_036_854_775_808u64),
            json!("9223372036854775808"),
            json!(9.3e18),
            json!(9_007_199_254_740_992.0),
            json!(-9_223_372_036_854_775_808.0),
            json!([]),
            json!(true),
        ] {
            let error = add(json!({"delta": delta})).unwrap_err();
            assert!(error.contains("an integer from -9223372036854775808"), "{error}");
        }
    }

    #[test]
    fn a_list_is_not_taken_for_an_object_at_any_depth() {
        for token in [json!([]), json!(["t"]), json!("t"), json!(1)] {
            let error = add(json!({"delta": 1, "idempotencyToken": token})).unwrap_err();
            assert!(error.contains("expected an object"), "{error}");
        }
        for adds in [json!([["a", 5]]), json!([[]])] {
            let error = from_value::<BatchAddCountRequest>(json!({"adds": adds})).unwrap_err().to_string();
            assert!(error.contains("expected an object"), "{error}");
        }
    }

    #[test]
    fn a_misspelt_or_doubled_field_of_a_request_is_refused() {
        assert!(add(json!({"dleta": 1})).unwrap_err().contains("unknown field `dleta`"));
        assert!(add(json!({"counterName": "a", "counter_name": "b"})).unwrap_err().contains("duplicate field"));
        assert!(add(json!({"idempotencyToken": {"tokn": "a"}})).unwrap_err().contains("unknown field `tokn`"));
        let batch = json!({"adds": [{"counter": "a"}]});
        assert!(from_value::<BatchAddCountRequest>(batch).unwrap_err().to_string().contains("unknown field `counter`"));
    }

    #[test]
    fn null_stands_for_the_default() {
        let nulls = json!({"namespace": null, "counterName": null, "delta": null, "idempotencyToken": null});
        assert_eq!(add(nulls), Ok(AddCountRequest::default()));
        let batch = from_value(json!({"namespace": null, "counterNames": null}));
        assert_eq!(batch.ok(), Some(BatchGetCountRequest::default()));
    }

    #[test]
    fn a_count_of_0_is_shown_and_an_absent_as_of_is_not() {
        assert_eq!(to_value(GetCountResponse::default()).unwrap(), json!({"count": "0"}));
        let exact = GetCountResponse { count: i64::MIN, as_of: Some(Timestamp { seconds: 0, nanos: 0 }) };
        assert_eq!(to_value(exact).unwrap(), json!({"count": "-9223372036854775808", "asOf": "1970-01-01T00:00:00Z"}));
        assert_eq!(to_value(AddCountResponse {}).unwrap(), json!({}));
    }

    #[test]
    fn a_reply_with_fields_of_a_later_version_is_read() {
        let reply: GetCountResponse = from_value(json!({"count": "7", "region": "dc1"})).unwrap();
        assert_eq!(reply.count, 7);
    }

    #[test]
    fn max_staleness_is_read_as_text() {
        let get: GetCountRequest = from_value(json!({"maxStaleness": "1.5s"})).unwrap();
        assert_eq!(get.max_staleness, Some(std::time::Duration::from_millis(1_500).into()));
    }

    #[test]
    fn batch_results_show_a_count_or_a_status() {
        let reply = BatchGetCountResponse {
            results: vec![
                batch_get_count_response::Result { counter_name: "a".to_owned(), count: Some(0), ..Default::default() },
                batch_get_count_response::Result {
                    counter_name: String::new(),
                    status: Some(crate::status::Status::invalid("counter_names[1]", "is empty")),
                    ..Default::default()
                },
            ],
        };
        let value = to_value(&reply).unwrap();
        assert_eq!(value["results"][0], json!({"counterName": "a", "count": "0"}));
        assert_eq!(value["results"][1]["status"]["code"], json!(3));
        assert_eq!(
            value["results"][1]["status"]["details"][0]["@type"],
            json!("type.googleapis.com/google.rpc.BadRequest")
        );
        assert_eq!(value["results"][1].get("count"), None);
        assert_eq!(from_value::<BatchGetCountResponse>(value).unwrap(), reply);
    }
}
