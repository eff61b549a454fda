// The hub without sockets, with two clients that consist only of a channel.
package main

import "fmt"

type client struct{ send chan string }

var (
	clients              = make(map[*client]bool)
	broadcast            = make(chan string)
	register, unregister = make(chan *client), make(chan *client)
)

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
		}
	}
}

func main() {
	ann := &client{make(chan string, 2)}
	bob := &client{make(chan string, 1)}
	go run()
	register <- ann
	register <- bob
	broadcast <- "hello"
	broadcast <- "goodbye"
	unregister <- ann
	for _, c := range []*client{ann, bob} {
		name := map[*client]string{ann: "Ann", bob: "Bob"}[c]
		for message := range c.send {
			fmt.Println(name, "reads:", message)
		}
		fmt.Println(name + "'s channel is closed")
	}
}
