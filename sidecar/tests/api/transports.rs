//! What else the port speaks: reflection, health, unknown services, the Unix socket.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering;

use tallyman_api::proto::GetCountRequest;
use tallyman_api::proto::counter_service_client::CounterServiceClient;
use tallyman_sidecar::listeners::{Addresses, BindError, Listeners};
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::call::{add, by_grpc};
use crate::world::{ANY_PORT, Settings, World};

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    let world = World::new().await;
    macro_rules! listed {
        ($version:ident) => {{
            use $version::server_reflection_client::ServerReflectionClient;
            use $version::server_reflection_request::MessageRequest;
            use $version::server_reflection_response::MessageResponse;
            let mut client = ServerReflectionClient::with_origin(world.channel.clone(), world.origin.clone());
            let message_request = Some(MessageRequest::ListServices(String::new()));
            let request = $version::ServerReflectionRequest { host: String::new(), message_request };
            let replies = client.server_reflection_info(tokio_stream::once(request)).await.unwrap();
            let reply = replies.into_inner().next().await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = reply.message_response else {
                panic!("{reply:?}");
            };
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }
    for names in [listed!(v1), listed!(v1alpha)] {
        assert!(names.iter().any(|name| name == "tallyman.v1.CounterService"), "{names:?}");
        assert!(names.iter().any(|name| name == "grpc.health.v1.Health"), "{names:?}");
    }
}

#[tokio::test]
async fn health_follows_readiness_for_the_server_and_for_the_service() {
    let world = World::new().await;
    let mut client = HealthClient::with_origin(world.channel.clone(), world.origin.clone());
    for service in ["", "tallyman.v1.CounterService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut statuses = client.watch(request).await.unwrap().into_inner();
        for ready in [true, false, true] {
            world.ready.store(ready, Ordering::SeqCst);
            let expected = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            // The reporter follows within its period; nothing but the change itself is waited for.
            while statuses.message().await.unwrap().unwrap().status() != expected {}
        }
    }
    let unknown = client.check(HealthCheckRequest { service: "other".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn an_unknown_grpc_method_is_unimplemented() {
    let world = World::new().await;
    for path in ["/tallyman.v1.CounterService/Nothing", "/other.Service/Nothing"] {
        let mut grpc = tonic::client::Grpc::with_origin(world.channel.clone(), world.origin.clone());
        grpc.ready().await.unwrap();
        let codec: tonic_prost::ProstCodec<GetCountRequest, GetCountRequest> = tonic_prost::ProstCodec::default();
        let request = tonic::Request::new(GetCountRequest::default());
        let refused = grpc.unary(request, path.parse().unwrap(), codec).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn a_grpc_message_that_is_too_large_is_refused() {
    let world = World::new().await;
    let large = "x".repeat(4 * 1024 * 1024 + 1);
    let refused = by_grpc(&world, add("accurate", &large, 1, None), "").await.unwrap_err();
    assert_eq!((refused.status.code(), refused.status.error_info()), (Code::OutOfRange, None));
}

#[tokio::test]
async fn json_is_served_over_http_2_too() {
    let world = World::new().await;
    let uri = format!("http://{}/v1/namespaces/accurate/counters/a", world.api);
    let request = http::Request::get(uri).body(tonic::body::Body::empty()).unwrap();
    let response = world.channel.request(request).await.unwrap();
    assert_eq!((response.status(), response.version()), (http::StatusCode::OK, http::Version::HTTP_2));
    let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(json["count"], "0");
}

#[tokio::test]
async fn the_unix_socket_serves_the_same_api_to_its_user_and_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    // A socket that a killed process left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let world = World::with(Settings { unix_socket: Some(path.clone()), ..Settings::default() }).await;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    by_grpc(&world, add("accurate", "a", 3, None), "").await.unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", path.display())).unwrap();
    let mut client = CounterServiceClient::new(endpoint.connect().await.unwrap());
    let request =
        GetCountRequest { namespace: "accurate".to_owned(), counter_name: "a".to_owned(), max_staleness: None };
    assert_eq!(client.get_count(request).await.unwrap().into_inner().count, 3);

    // One that is listened on is not.
    let addresses = Addresses { api: ANY_PORT, unix_socket: Some(path.clone()), admin: ANY_PORT };
    let refused = Listeners::bind(&addresses).await.unwrap_err();
    assert!(refused.to_string().contains("another process listens on it"), "{refused}");

    drop(client);
    world.stop.cancel();
    world.serving.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "precious").unwrap();
    let addresses = Addresses { api: ANY_PORT, unix_socket: Some(path.clone()), admin: ANY_PORT };
    assert!(matches!(Listeners::bind(&addresses).await, Err(BindError::Unix { .. })));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

#[tokio::test]
async fn the_api_listens_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let addresses = Addresses { api: address.parse().unwrap(), unix_socket: None, admin: ANY_PORT };
        let refused = Listeners::bind(&addresses).await.unwrap_err();
        assert!(matches!(refused, BindError::NotLoopback { .. }), "{address}");
        assert!(refused.to_string().contains("127.0.0.1"), "{refused}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_with_the_reason() {
    let taken = tokio::net::TcpListener::bind(ANY_PORT).await.unwrap();
    let address = taken.local_addr().unwrap();
    for addresses in [
        Addresses { api: address, unix_socket: None, admin: ANY_PORT },
        Addresses { api: ANY_PORT, unix_socket: None, admin: address },
    ] {
        let refused = Listeners::bind(&addresses).await.unwrap_err().to_string();
        assert!(refused.contains(&address.to_string()) && refused.contains("in use"), "{refused}");
    }
}
