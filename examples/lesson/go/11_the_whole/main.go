// The whole chat: the server, the hub, and two clients with two pumps each.
//
// The standard library has no WebSocket, so the clients send lines of text over TCP.
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
	for lines := bufio.NewScanner(c.conn); lines.Scan(); {
		broadcast <- lines.Text()
	}
}

func (c *client) writePump() {
	defer c.conn.Close()
	for message := range c.send {
		fmt.Fprintln(c.conn, message)
	}
}

func run() {
	clients := make(map[*client]bool)
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
		}
	}
}

func serve(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		c := &client{conn, make(chan string, 256)}
		register <- c
		go c.writePump()
		go c.readPump()
	}
}

type browser struct {
	name string
	net.Conn
	lines *bufio.Scanner
}

func dial(name, addr string) browser {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		panic(err)
	}
	return browser{name, conn, bufio.NewScanner(conn)}
}

func say(speaker browser, text string, readers ...browser) {
	fmt.Fprintln(speaker, text)
	for _, reader := range readers {
		reader.lines.Scan()
		fmt.Println(reader.name, "reads:", reader.lines.Text())
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go run()
	go serve(listener)

	ann := dial("Ann", listener.Addr().String())
	say(ann, "Ann is here", ann)
	bob := dial("Bob", listener.Addr().String())
	say(bob, "Bob is here", ann, bob)
	ann.Close()
	bob.Close()
	listener.Close()
	fmt.Println("the chat has ended")
}
