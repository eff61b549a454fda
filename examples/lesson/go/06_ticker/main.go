// A ticker: it ticks every tenth of a second, however busy the channel is.
package main

import (
	"fmt"
	"time"
)

func talk(messages chan<- string, stop <-chan bool) {
	defer close(messages)
	for {
		select {
		case messages <- "message":
		case <-stop:
			fmt.Println("the talker stops")
			return
		}
	}
}

func main() {
	messages, stop := make(chan string), make(chan bool)
	go talk(messages, stop)

	ticks, ticker := 0, time.NewTicker(100*time.Millisecond)
	for ticks < 2 {
		select {
		case <-messages:
		case <-ticker.C:
			ticks++
			fmt.Println("tick", ticks)
		}
	}
	ticker.Stop()
	close(stop)
	for range messages {
		// ignore a message that was still on its way
	}
}
