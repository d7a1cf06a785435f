// One member of a group by franz-go, which tells its history on standard output.
//
// Arguments: the client's settings as JSON, the member's name, its group, its topic and the protocol: range,
// cooperative-sticky or consumer. SIGTERM closes it in order.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"palisade.invalid/tests/history"
)

func main() {
	settings, member := history.Arguments()
	trust, err := os.ReadFile(settings.Trust)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trust)
	login := scram.Auth{User: settings.User, Pass: settings.Password}
	mechanism := login.AsSha512Mechanism()
	if settings.Mechanism == "SCRAM-SHA-256" {
		mechanism = login.AsSha256Mechanism()
	}
	tell := func(event string) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, client *kgo.Client, topics map[string][]int32) {
			fields := map[string]any{"partitions": append([]int32{}, topics[member.Topic]...)}
			if event == "assigned" {
				_, fields["generation"] = client.GroupMetadata()
			}
			member.Say(event, fields)
		}
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(settings.Bootstrap),
		kgo.DialTLSConfig(&tls.Config{RootCAs: roots}),
		kgo.SASL(mechanism),
		kgo.ClientID(member.Name),
		kgo.ConsumerGroup(member.Group),
		kgo.ConsumeTopics(member.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(6 * time.Second),
		kgo.HeartbeatInterval(500 * time.Millisecond),
		kgo.RebalanceTimeout(15 * time.Second),
		kgo.FetchMaxWait(300 * time.Millisecond),
		kgo.OnPartitionsAssigned(tell("assigned")),
		kgo.OnPartitionsRevoked(tell("revoked")),
		kgo.OnPartitionsLost(tell("lost")),
	}
	switch member.Protocol {
	case "range":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()))
	case "cooperative-sticky":
		options = append(options, kgo.Balancers(kgo.CooperativeStickyBalancer()))
	case "consumer":
		options = append(options, kgo.Balancers(kgo.RangeBalancer()), kgo.ServerSideBalancer())
	default:
		log.Fatalf("unknown protocol %s", member.Protocol)
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		log.Fatal(err)
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	for stop.Err() == nil {
		consume(stop, client, member)
	}
	member.Say("closing", nil)
	client.CloseAllowingRebalance()
	member.Say("closed", nil)
}

// Polls once, and commits what came before a rebalance may take it away.
func consume(stop context.Context, client *kgo.Client, member *history.Member) {
	fetches := client.PollFetches(stop)
	defer client.AllowRebalance()
	fetches.EachError(func(_ string, partition int32, err error) {
		if stop.Err() == nil {
			log.Printf("partition %d: %v", partition, err)
		}
	})
	next := map[int32]int64{}
	fetches.EachRecord(func(record *kgo.Record) {
		member.Record(record.Partition, record.Offset, record.Value)
		next[record.Partition] = record.Offset + 1
	})
	if len(next) == 0 {
		return
	}
	// Not bounded by the signal: what was handed out is committed before leaving.
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	if err := client.CommitRecords(ctx, fetches.Records()...); err != nil {
		log.Printf("commit: %v", err)
		return
	}
	offsets := [][2]int64{}
	for partition, offset := range next {
		offsets = append(offsets, [2]int64{int64(partition), offset})
	}
	member.Say("committed", map[string]any{"offsets": offsets})
}
