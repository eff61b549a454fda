// The pumps: a client of the chat, between a connection and the hub.
//
// The standard library has no WebSocket, so the connection is a net.Pipe, and each line is a message.
package main

import (
	"bufio"
	"fmt"
	"net"
	"sync"
)

type client struct {
	conn net.Conn
	send chan string
}

var (
	clients              = make(map[*client]bool)
	broadcast            = make(chan string)
	register, unregister = make(chan *client), make(chan *client)
	stop                 = make(chan bool)
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

func run() {
	for {
		select {
		case c := <-register:
			clients[c] = true
		case c := <-unregister:
			if clients[c] {
				delete(clients, c)
				close(c.send)
			}
		case message := <-broadcast:
			for c := range clients {
				select {
				case c.send <- message:
				default:
					close(c.send)
					delete(clients, c)
				}
			}
		case <-stop:
			return
		}
	}
}

func main() {
	ours, theirs := net.Pipe()
	c := &client{ours, make(chan string, 256)}
	var owner, reader sync.WaitGroup
	owner.Go(run)
	register <- c
	go c.writePump()
	reader.Go(c.readPump)

	fmt.Fprintln(theirs, "hello")
	heard, _ := bufio.NewReader(theirs).ReadString('\n')
	fmt.Print("the room hears: ", heard)
	theirs.Close()
	reader.Wait()
	close(stop)
	owner.Wait()
	fmt.Println("clients in the room:", len(clients))
}
