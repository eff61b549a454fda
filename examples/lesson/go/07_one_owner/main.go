// One owner instead of a lock: one goroutine owns the number, and the others send it requests.
package main

import (
	"fmt"
	"sync"
)

var deposit, ask = make(chan int), make(chan chan int)

func own() {
	balance := 0
	for {
		select {
		case amount := <-deposit:
			balance += amount
		case answer := <-ask:
			answer <- balance
			return
		}
	}
}

func main() {
	go own()
	var savers sync.WaitGroup
	for range []string{"Ann", "Bob"} {
		savers.Add(1)
		go func() {
			defer savers.Done()
			deposit <- 10
		}()
	}
	savers.Wait()
	answer := make(chan int)
	ask <- answer
	fmt.Println("the balance is", <-answer)
}
