// A ticker: something is due every tenth of a second, however busy the channel is.
package main

import (
	"fmt"
	"time"
)

func main() {
	messages, stop, stopped := make(chan string), make(chan bool), make(chan bool)

	go func() {
		defer close(stopped)
		for {
			select {
			case messages <- "message":
			case <-stop: // to close messages would make the send panic
				fmt.Println("the talker is told to stop")
				return
			}
		}
	}()

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
	<-stopped
}
