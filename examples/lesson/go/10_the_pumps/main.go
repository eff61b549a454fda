// The pumps: a client of the chat, between a connection and the hub.
//
// The connection is a net.Pipe, and a message is a line: the standard library has no WebSocket.
package main

import (
	"bufio"
	"fmt"
	"net"
)

type client struct {
	conn net.Conn
	send chan string
}

var (
	broadcast            = make(chan string)
	register, unregister = make(chan *client), make(chan *client)
)

func (c *client) readPump() {
	defer func() {
		unregister <- c
		c.conn.Close()
	}()
	lines := bufio.NewScanner(c.conn)
	for lines.Scan() {
		broadcast <- lines.Text()
	}
}

func (c *client) writePump() {
	defer c.conn.Close()
	for message := range c.send {
		if _, err := fmt.Fprintln(c.conn, message); err != nil {
			return
		}
	}
}

func run(stop chan bool, clients map[*client]bool) {
	defer close(stop)
	for {
		select {
		case c := <-register:
			clients[c] = true
		case c := <-unregister:
			delete(clients, c)
			close(c.send)
		case message := <-broadcast:
			for c := range clients {
				c.send <- message
			}
		case <-stop:
			return
		}
	}
}

func main() {
	stop, clients := make(chan bool), make(map[*client]bool)
	ours, theirs := net.Pipe()
	c := &client{ours, make(chan string, 256)}
	go run(stop, clients)
	register <- c
	go c.writePump()
	ended := make(chan bool)
	go func() {
		c.readPump()
		close(ended)
	}()

	fmt.Fprintln(theirs, "hello")
	heard, _ := bufio.NewReader(theirs).ReadString('\n')
	fmt.Print("the room hears: ", heard)
	theirs.Close()
	<-ended
	stop <- true
	<-stop
	fmt.Println("clients in the room:", len(clients))
}
