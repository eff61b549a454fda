// A chat of two clients, A and B, under Go's runtime/trace. The argument is the file for the trace.
// The program prints its port, and ends when its input ends.
//
// As in step 11 of the lesson, clients send lines of text over TCP. Each goroutine logs its name
// and what it does, because the trace has only numbers.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/trace"
)

type client struct {
	name string
	conn net.Conn
	send chan string
}

var (
	broadcast = make(chan string)
	register  = make(chan *client)
)

func log(goroutine, does string) { trace.Log(context.Background(), goroutine, does) }

func (c *client) readPump() {
	for lines := bufio.NewScanner(c.conn); lines.Scan(); {
		log("readPump "+c.name, "read")
		broadcast <- lines.Text()
	}
}

func (c *client) writePump() {
	for message := range c.send {
		log("writePump "+c.name, "write")
		fmt.Fprintln(c.conn, message)
	}
}

func run() {
	clients := make(map[*client]bool)
	for {
		select {
		case c := <-register:
			clients[c] = true
		case message := <-broadcast:
			log("hub", "broadcast")
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
	for _, name := range []string{"A", "B"} {
		conn, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		c := &client{name, conn, make(chan string, 256)}
		register <- c
		go c.writePump()
		go c.readPump()
	}
}

func main() {
	file, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	if err := trace.Start(file); err != nil {
		panic(err)
	}
	go run()
	go serve(listener)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	io.Copy(io.Discard, os.Stdin)
	trace.Stop()
}
