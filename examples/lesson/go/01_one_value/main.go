// One goroutine, one channel, one value.
package main

import "fmt"

func main() {
	greetings := make(chan string)

	go func() {
		greetings <- "hello"
	}()

	greeting := <-greetings
	fmt.Println("main has:", greeting)
}
