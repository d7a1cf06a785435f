// Package history prints what a member of a group does, one JSON object a line.
package history

import (
	"encoding/json"
	"os"
	"sync"
	"syscall"
	"unsafe"
)

const clockMonotonic = 1

// Client is how to reach the broker and who to be.
type Client struct {
	Bootstrap, Trust, Mechanism, User, Password string
}

// Member is one member of one group.
type Member struct {
	Name, Group, Topic, Protocol string
	lock                         sync.Mutex
}

// Arguments reads the command line: the client's settings as JSON, the member's name, group, topic and protocol.
func Arguments() (Client, *Member) {
	var client Client
	if err := json.Unmarshal([]byte(os.Args[1]), &client); err != nil {
		panic(err)
	}
	return client, &Member{Name: os.Args[2], Group: os.Args[3], Topic: os.Args[4], Protocol: os.Args[5]}
}

// Say prints an event with its fields. The clock is the machine's monotonic one, which Go's own time hides.
func (m *Member) Say(event string, fields map[string]any) {
	m.lock.Lock()
	defer m.lock.Unlock()
	var now syscall.Timespec
	_, _, failed := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&now)), 0)
	if failed != 0 {
		panic(failed)
	}
	line := map[string]any{"at": now.Nano(), "group": m.Group, "member": m.Name, "event": event}
	for name, value := range fields {
		line[name] = value
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	if _, err := os.Stdout.Write(append(text, '\n')); err != nil {
		panic(err)
	}
}

// Record tells that a record was handed to the application.
func (m *Member) Record(partition int32, offset int64, value []byte) {
	m.Say("record", map[string]any{"partition": partition, "offset": offset, "value": string(value)})
}
