// One member of a group by sarama, which tells its history on standard output.
//
// Arguments: the client's settings as JSON, the member's name, its group, its topic and the assignor (range). SIGTERM
// closes it in order. It tells no commits: sarama does not say which of them were confirmed.
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

	"github.com/IBM/sarama"
	"github.com/xdg-go/scram"

	"palisade.invalid/tests/history"
)

// The SCRAM library behind the interface that sarama asks for.
type login struct {
	hash         scram.HashGeneratorFcn
	conversation *scram.ClientConversation
}

func (l *login) Begin(user, password, authorization string) error {
	client, err := l.hash.NewClient(user, password, authorization)
	if err == nil {
		l.conversation = client.NewConversation()
	}
	return err
}

func (l *login) Step(challenge string) (string, error) { return l.conversation.Step(challenge) }
func (l *login) Done() bool                            { return l.conversation.Done() }

type handler struct{ member *history.Member }

func (h handler) claims(session sarama.ConsumerGroupSession) []int32 {
	return append([]int32{}, session.Claims()[h.member.Topic]...)
}

func (h handler) Setup(session sarama.ConsumerGroupSession) error {
	h.member.Say("assigned", map[string]any{
		"generation": session.GenerationID(), "partitions": h.claims(session),
	})
	return nil
}

func (h handler) Cleanup(session sarama.ConsumerGroupSession) error {
	h.member.Say("revoked", map[string]any{"partitions": h.claims(session)})
	return nil
}

func (h handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, more := <-claim.Messages():
			if !more {
				return nil
			}
			h.member.Record(message.Partition, message.Offset, message.Value)
			session.MarkMessage(message, "")
			if len(claim.Messages()) == 0 {
				session.Commit()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func main() {
	settings, member := history.Arguments()
	trust, err := os.ReadFile(settings.Trust)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(trust)
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.ClientID = member.Name
	config.Net.TLS.Enable = true
	config.Net.TLS.Config = &tls.Config{RootCAs: roots}
	config.Net.SASL.Enable = true
	config.Net.SASL.Mechanism = sarama.SASLMechanism(settings.Mechanism)
	config.Net.SASL.User = settings.User
	config.Net.SASL.Password = settings.Password
	config.Net.SASL.SCRAMClientGeneratorFunc = func() sarama.SCRAMClient {
		if settings.Mechanism == sarama.SASLTypeSCRAMSHA256 {
			return &login{hash: scram.SHA256}
		}
		return &login{hash: scram.SHA512}
	}
	config.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	config.Consumer.Group.Rebalance.Timeout = 15 * time.Second
	config.Consumer.Group.Session.Timeout = 6 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.MaxWaitTime = 300 * time.Millisecond
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Return.Errors = true
	group, err := sarama.NewConsumerGroup([]string{settings.Bootstrap}, member.Group, config)
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		for err := range group.Errors() {
			log.Print(err)
		}
	}()
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	for stop.Err() == nil {
		if err := group.Consume(stop, []string{member.Topic}, handler{member}); err != nil {
			log.Print(err)
		}
	}
	member.Say("closing", nil)
	if err := group.Close(); err != nil {
		log.Print(err)
	}
	member.Say("closed", nil)
}
