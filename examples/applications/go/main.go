// Counts by gRPC: one add every INTERVAL seconds, through the sidecar.
//
// Each add has a token, made once and sent again with every retry: however often the add is sent, it counts once.
package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/tallyman/tallyman/examples/applications/go/counter"
)

//go:generate ./generate.sh

const (
	sidecar        = "127.0.0.1:7777"
	attemptTimeout = 5 * time.Second
	delayFirst     = 100 * time.Millisecond
	delayMax       = 1600 * time.Millisecond
)

func main() {
	log.SetFlags(0)
	namespace, name := cmp.Or(os.Getenv("COUNTER_NAMESPACE"), "video-plays"), cmp.Or(os.Getenv("COUNTER_NAME"), "go")
	interval, err := time.ParseDuration(cmp.Or(os.Getenv("INTERVAL"), "1") + "s")
	if err != nil {
		log.Fatalf("INTERVAL: %v; it is a number of seconds", err)
	}
	times, err := strconv.Atoi(cmp.Or(os.Getenv("TIMES"), "0"))
	if err != nil {
		log.Fatalf("TIMES: %v; it is a number of adds, 0 for no end", err)
	}
	// Calls do not get this context: the add in flight is finished.
	terminated, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()

	// A sidecar that was away is connected to again as often as an add is tried again; by default, it could take 2 minutes.
	reconnect := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: delayFirst, Multiplier: 2, MaxDelay: delayMax}}
	connection, err := grpc.NewClient(sidecar,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(reconnect))
	if err != nil {
		log.Fatalf("%s: %v", sidecar, err)
	}
	defer connection.Close()
	client := counter.NewCounterServiceClient(connection)

	for added := 0; (times == 0 || added < times) && terminated.Err() == nil; {
		token := &counter.IdempotencyToken{Token: rand.Text(), GenerationTime: timestamppb.Now()}
		add := &counter.AddCountRequest{Namespace: namespace, CounterName: name, Delta: 1, IdempotencyToken: token}
		if _, lost, err := retried(context.Background(), client.AddCount, add); err != nil && lost {
			log.Printf("%s was refused, and an attempt before may have counted: %v", name, err)
		} else if err != nil {
			log.Printf("%s was refused: %v", name, err)
		} else {
			added++
			get := &counter.GetCountRequest{Namespace: namespace, CounterName: name}
			if reply, _, err := retried(terminated, client.GetCount, get); err != nil {
				log.Printf("%s added 1, and was not told the count: %v", name, err)
			} else {
				fmt.Printf("%s added 1, count %d\n", name, reply.Count)
			}
		}
		select {
		case <-terminated.Done():
		case <-time.After(interval):
		}
	}
	if os.Getenv("WHEN_DONE") == "sleep" {
		<-terminated.Done()
	}
}

// retried sends a request until it is answered, or refused for a reason that sending it again does not mend. lost says whether an attempt
// before was not answered, which may have been carried out all the same. Nothing is sent again once until is done.
func retried[Q, A any](until context.Context, call func(context.Context, Q, ...grpc.CallOption) (A, error), request Q) (reply A, lost bool, err error) {
	for delay := delayFirst; ; delay = min(2*delay, delayMax) {
		ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
		reply, err = call(ctx, request)
		cancel()
		switch status.Code(err) {
		case codes.Unavailable, codes.DeadlineExceeded:
			lost = true
		case codes.ResourceExhausted:
		default:
			return reply, lost, err
		}
		if until.Err() != nil {
			return reply, lost, err
		}
		time.Sleep(delay)
	}
}
