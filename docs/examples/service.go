// A service of the field in plain Go: the frames that tcpx writes, without tcpx. In a clone: go run docs/examples/service.go 127.0.0.1:7171 30
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"strconv"
	"time"
)

const (
	requestID   = 2
	heartbeatID = 1392
	heartbeat   = 10 * time.Second
	firstWait   = 500 * time.Millisecond
	longestWait = 10 * time.Second
)

type Task struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	URL         string `json:"url"`
	User        string `json:"user"`
	GroupID     string `json:"group_id"`
	Description string `json:"description"`
	Status      string `json:"status"`
	StartTime   string `json:"start_time"`
	StopTime    string `json:"stop_time"`
}

type Reply struct {
	Task
	ErrID  int    `json:"errid"`
	ErrMsg string `json:"errmsg"`
}

func frame(messageID int32, header map[string]interface{}, body interface{}) []byte {
	headerBytes, _ := json.Marshal(header)
	var bodyBytes []byte
	if body != nil {
		bodyBytes, _ = json.Marshal(body)
	}
	out := make([]byte, 16, 16+len(headerBytes)+len(bodyBytes))
	binary.BigEndian.PutUint32(out[0:], uint32(12+len(headerBytes)+len(bodyBytes)))
	binary.BigEndian.PutUint32(out[4:], uint32(messageID))
	binary.BigEndian.PutUint32(out[8:], uint32(len(headerBytes)))
	binary.BigEndian.PutUint32(out[12:], uint32(len(bodyBytes)))
	return append(append(out, headerBytes...), bodyBytes...)
}

func ask(conn net.Conn, verb string, body interface{}) (Reply, error) {
	var reply Reply
	if _, err := conn.Write(frame(requestID, map[string]interface{}{"RequestID": verb}, body)); err != nil {
		return reply, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, 16)
	if _, err := io.ReadFull(conn, head); err != nil {
		return reply, err
	}
	rest := make([]byte, binary.BigEndian.Uint32(head[0:])-12)
	if _, err := io.ReadFull(conn, rest); err != nil {
		return reply, err
	}
	return reply, json.Unmarshal(rest[binary.BigEndian.Uint32(head[8:]):], &reply)
}

// serve registers and beats until the time is over or the connection is lost.
func serve(address string, task Task, until time.Time) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if reply, err := ask(conn, "Register", task); err != nil || reply.ErrID != 0 {
		return fmt.Errorf("register: %v %d %s", err, reply.ErrID, reply.ErrMsg)
	}
	for time.Now().Before(until) {
		pause := time.Until(until)
		if pause > heartbeat {
			pause = heartbeat
		}
		time.Sleep(pause)
		if _, err := conn.Write(frame(heartbeatID, nil, nil)); err != nil {
			return err
		}
	}
	reply, err := ask(conn, "Update", Task{ID: task.ID, Status: "finish", StopTime: time.Now().Format("2006-01-02 15:04:05")})
	if err != nil || reply.ErrID != 0 {
		return fmt.Errorf("update: %v %d %s", err, reply.ErrID, reply.ErrMsg)
	}
	found, err := ask(conn, "Find", map[string]string{"id": task.ID})
	if err == nil {
		fmt.Println("finished:", found.ID, found.Name, found.Status)
	}
	return err
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: service ADDRESS SECONDS")
		os.Exit(2)
	}
	seconds, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	until := time.Now().Add(time.Duration(seconds) * time.Second)
	task := Task{ID: "go-example", Name: "go", GroupID: "mx", User: "ssx", Status: "running", StartTime: time.Now().Format("2006-01-02 15:04:05")}
	for wait := firstWait; ; wait *= 2 {
		began := time.Now()
		err := serve(os.Args[1], task, until)
		if err == nil {
			return
		}
		fmt.Fprintln(os.Stderr, "connecting again:", err)
		if time.Since(began) > heartbeat {
			wait = firstWait
		}
		if wait > longestWait {
			wait = longestWait
		}
		time.Sleep(wait/2 + time.Duration(rand.Int63n(int64(wait))))
	}
}
