#!/bin/sh
# Makes counter/ from the API's .proto files, which name no Go packages. Needs protoc, and:
#   go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.10 google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.0
set -eu
cd "$(dirname "$0")"
packages='module=tallyman/v1,Mtallyman/v1/counter.proto=tallyman/v1;counter'
packages="$packages,Mgoogle/rpc/status.proto=google.golang.org/genproto/googleapis/rpc/status"
protoc --proto_path=../../../api/proto \
  --go_out=counter --go_opt="$packages" --go-grpc_out=counter --go-grpc_opt="$packages" tallyman/v1/counter.proto
